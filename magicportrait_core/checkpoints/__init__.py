"""Reading and writing the networks' weights: released files, converted files, strict key tables."""
