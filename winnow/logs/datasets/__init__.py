"""Public data sets, fetched on demand and converted to what `winnow train` reads. None of them is part of Winnow."""
