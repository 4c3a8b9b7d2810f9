"""A small release of films, with a missing value in every attribute."""

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.schema import AttributeType

FILMS = Attributes.from_values(
    {
        "title": ["Star Wars", "M*A*S*H", None, "Toy Story", "Ö"],
        "genres": [["Sci-Fi", "Comedy"], ["Comedy", "War"], None, ["Comedy", "Children's"], []],
        "year": [1977, 1970, 2001, None, 1995.5],
        "added": ["2012-04-21T11:30:00-04:00", None, "1969-12-31", "2020-01-01T00:00:00.5Z", "2012-04-21T15:30:00Z"],
        "adult": [False, True, None, False, True],
        "release year": [1, 2, 3, 4, 5],
    },
    {
        "title": AttributeType.TEXT,
        "genres": AttributeType.LIST,
        "year": AttributeType.NUMBER,
        "added": AttributeType.TIMESTAMP,
        "adult": AttributeType.BOOLEAN,
        "release year": AttributeType.NUMBER,
    },
    item_count=5,
)
