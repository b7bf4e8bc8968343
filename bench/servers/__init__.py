"""What the service is compared with. Each module holds `app`, and answers POST /predict with JSON."""
