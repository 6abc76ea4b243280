"""The command line of gen_eval: one file a verb; imports everything, is imported by nothing."""
