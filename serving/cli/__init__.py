"""The console command `sparseclip`. Each subcommand is a file, imported only when it is called."""
