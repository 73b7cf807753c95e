"""The figure of a sweep: what each coefficient of a subtraction does to the base model."""

from collections.abc import Sequence

from nescio.report.style import PALETTE, new_figure, styled, svg


def curves(
    coefficients: Sequence[float],
    perplexity: Sequence[float],
    broken: Sequence[float],
    pii: Sequence[float],
    apart: Sequence[bool],
) -> str:
    """Draw perplexity, broken answers and personal data against the coefficient; crosses are degenerate models.

    Args:
        coefficients: The coefficients tried; 0 is the base model.
        perplexity: Perplexity of neutral text; drawn on a logarithmic axis, infinite values left out.
        broken: Share of neutral questions answered with a loop or almost nothing.
        pii: Pieces of personal data in the answers.
        apart: Whether the model degenerated.

    Returns:
        SVG.
    """
    panels = {"perplexity of plain text": perplexity, "broken answers, share": broken, "pieces of personal data": pii}
    colors = (PALETTE["one"], PALETTE["two"], PALETTE["three"])
    order = sorted(range(len(coefficients)), key=coefficients.__getitem__)
    with styled():
        figure = new_figure(7.2, 2.4)
        for axes, (title, values), color in zip(figure.subplots(1, 3), panels.items(), colors, strict=True):
            for marker, chosen in (("o", False), ("X", True)):
                points = [i for i in order if apart[i] == chosen]
                axes.plot([coefficients[i] for i in points], [values[i] for i in points], marker, color=color)
            axes.plot([coefficients[i] for i in order], [values[i] for i in order], color=color, alpha=0.5)
            axes.set(title=title, xlabel="coefficient c")
            axes.grid(axis="y")
            if values is perplexity:
                axes.set_yscale("log")
            else:
                axes.set_ylim(0, max(1.0, *values) * 1.05)
        return svg(figure)
