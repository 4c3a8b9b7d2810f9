"""The explorer: web pages for the people who run a recommender. They ask a gateway and change nothing."""
