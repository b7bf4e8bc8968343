"""Files of any size answered by Dask: `reviewapp score IN OUT`. Each file here knows only those before it.

columns    a column of cells → its values, and which of them surely keep the contract's rules
tables     the rows of one partition, read; those that are not surely right go through the schema of single rows
inputs     what IN names → partitions: so many rows of one file, found without reading a cell
answers    the answers of an option to a partition, by column: figures, decision, reasons, warnings
outputs    a partition and its answers as CSV, JSON Lines or Parquet, and its bad rows alone
folder     the folder beside OUT: what a run is, which of its partitions are done, and the whole at the end
recording  what a run leaves in the ledger
work       one partition from its bytes to its file: what a worker does
run        all of it, with Dask
"""
