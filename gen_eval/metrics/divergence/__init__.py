"""f-divergences by their variational bound and by the density-ratio trick."""
