"""A confusion matrix as a table of a page: how often each class is taken for which."""

from collections.abc import Iterator, Sequence

import numpy as np

from jaxvision.report.page import Markup, element, row_head, share, table, table_of

MOST_CLASSES = 100
"""Of a whole matrix; beyond it only the pairs most often confused are told."""

FEW_CLASSES = 10
"""Up to here the matrix alone is soon read."""

MOST_PAIRS = 20

MATRIX_INTRO = (
    "Rows are true classes, columns predicted ones. The stronger a cell's colour, the larger its share of the row: blue"
    " where it is right, orange where it is wrong."
)


def matrix_parts(matrix: np.ndarray, class_names: Sequence[str], what: str) -> list[Markup]:
    """The matrix, and of many classes the pairs most often confused.

    Args:
      matrix: int (K, K), true classes in rows, predicted ones in columns.
      what: is counted: "examples" or "pixels".
    """
    parts = [_matrix(matrix, class_names, what)] if len(matrix) <= MOST_CLASSES else []
    return parts + ([_pairs(matrix, class_names, what)] if len(matrix) > FEW_CLASSES else [])


def _matrix(matrix: np.ndarray, class_names: Sequence[str], what: str) -> Markup:
    shares = row_shares(matrix)
    corner = element("th", "true \\ predicted", scope="col")
    head = [corner, *(element("th", element("span", name), scope="col", title=name) for name in class_names)]

    def row(true: int) -> Iterator[Markup]:
        yield row_head(class_names[true])
        for predicted, (count, part) in enumerate(zip(matrix[true].tolist(), shares[true].tolist(), strict=True)):
            # The root makes small shares visible.
            shade = f"--shade:{part**0.5:.2f}" if count else None
            of_row = element("small", share(part)) if count else None
            hit = "hit" if true == predicted else None
            yield element("td", f"{count:,}", of_row, class_=hit, style=shade)

    caption = f"Confusion matrix: number of {what}, and the share of their true class"
    classes = "matrix many" if len(matrix) > FEW_CLASSES else "matrix"
    return table_of(caption, head, map(row, range(len(matrix))), class_=classes)


def _pairs(matrix: np.ndarray, class_names: Sequence[str], what: str) -> Markup:
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    shares = row_shares(matrix)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    rows = [
        [class_names[true], class_names[said], f"{wrong[true, said]:,}", share(shares[true, said])]
        for true, said in zip(*np.unravel_index(largest, matrix.shape), strict=True)
        if wrong[true, said]
    ]
    return table(
        "Pairs most often confused, and the share of the true class", ["true", "taken for", what, "share"], rows
    )


def row_shares(matrix: np.ndarray) -> np.ndarray:
    """float64 (K, K): each cell over the sum of its row, 0 in rows of nothing."""
    return matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
