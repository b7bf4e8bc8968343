"""The default model: which queue should a support request go to? Its data are synthetic and say so."""
