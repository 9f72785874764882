"""Whether a figure can be read: what leaves it, what is too small for print, what lies on something else."""

from matplotlib.text import Text

from analysis.style import with_foot


def box_of(artist):
    """Where an artist is; of a text with a line to something, the text alone."""
    return Text.get_window_extent(artist) if isinstance(artist, Text) else artist.get_window_extent()


def overlapping(artists):
    """Pairs of artists whose boxes share more than two pixels, of 200 to the inch, in both directions."""
    boxes = [(artist, box_of(artist)) for artist in artists]
    return [
        (artist, other)
        for index, (artist, a) in enumerate(boxes)
        for other, b in boxes[index + 1 :]
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 2 and min(a.y1, b.y1) - max(a.y0, b.y0) > 2
    ]


def tick_labels(axes):
    """Labels of the ticks within view; matplotlib keeps some beyond, which are not drawn."""
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    labels = [label for label in axes.get_xticklabels() if left <= label.get_position()[0] <= right]
    return labels + [label for label in axes.get_yticklabels() if low <= label.get_position()[1] <= high]


def assert_laid_out(figure):
    """Nothing leaves the figure, no text is too small for print, and titles, ticks, labels and legends are apart."""
    figure = with_foot(figure, "Grid g, scale tiny. Data: substitute. " * 5)
    figure.draw_without_rendering()
    visible = [axes for axes in figure.axes if axes.get_visible() and axes.axison]
    foot = figure.texts[-1].get_window_extent()
    texts = []
    for axes in visible:
        box = axes.get_tightbbox()
        assert box.x0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y0 >= foot.y1 - 1
        assert box.y1 <= figure.bbox.y1 + 1
        labels = [axes.title, axes.xaxis.label, axes.yaxis.label, *tick_labels(axes)]
        texts += [text for text in labels if text.get_text() and text.get_visible()]
        assert all(text.get_fontsize() >= 6.5 for text in [*labels, *axes.texts])
        # Numbers in squares and at tickets keep clear of each other.
        assert not overlapping(axes.texts)
    assert not overlapping(texts)
    for legend in figure.legends:
        box = legend.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1 + 1
        # A legend has nine pixels of white around what is written in it.
        assert all(axes.get_tightbbox().y1 <= box.y0 + 4 for axes in visible)
