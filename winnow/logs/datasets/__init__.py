"""Public data sets, fetched when needed and converted to what `winnow train` reads. None of them is part of Winnow."""
