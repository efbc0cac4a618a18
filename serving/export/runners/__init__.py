"""Who makes an export's shards: this process, several of this machine, or a Ray cluster."""
