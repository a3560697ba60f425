"""R-Drop for fairseq (Liang et al., NeurIPS 2021), loaded with `--user-dir rdrop_fairseq`."""
