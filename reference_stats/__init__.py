"""Statistics of well-known sets that ship; :mod:`gen_eval.references` reads them."""
