"""Sessions and the Ray actor graph. The only importer of ray."""
