"""Files of the user: images in folders, arrays, Arrow and Parquet, tables of texts."""
