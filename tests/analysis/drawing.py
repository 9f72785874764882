"""What an error bar shows."""

from matplotlib.container import ErrorbarContainer


def bars_with_errors(axes):
    return [container for container in axes.containers if isinstance(container, ErrorbarContainer)]


def means(axes):
    """Coordinates of the markers of all error bars of a panel."""
    return [tuple(float(values[0]) for values in bar.lines[0].get_data()) for bar in bars_with_errors(axes)]
