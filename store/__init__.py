"""The on-disk format: catalogs in Parquet, representations in Zarr, a manifest that is written last."""
