"""What ElastAlert2 is taught: the figures of the service levels, and to be quick."""
