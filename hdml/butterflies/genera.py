"""The eight plans that the invented family is drawn from, each after a group of real butterflies.

A table: a wing's outline first (apex, reach, tornus, tornus_reach, bulge), then its marks, then the pigments.
"""

from hdml.butterflies.anatomy import Palette, Species, Wing

# fmt: off
GENERA: tuple[Species, ...] = (
    # Fritillaries: tawny, rows of black spots, bars in the cell.
    Species(
        Wing(38, 1.0, -12, 0.68, 0.05, bars=0.9, row_size=0.034, row_at=0.74, border=0.05,
             border_dots=0.5, lunules=0.4, veins=0.5),
        Wing(4, 0.70, -66, 0.72, 0.22, scallop=0.03, row_size=0.036, row_at=0.70,
             border=0.06, border_dots=0.5, veins=0.4),
        Palette((0.075, 0.85, 0.88), (0.095, 0.75, 0.92), (0.11, 0.55, 0.95), (0.05, 0.55, 0.16), (0.10, 0.5, 0.9)),
    ),
    # Peacocks: one grand eye on each wing, angled and scalloped margins.
    Species(
        Wing(42, 1.0, -8, 0.68, -0.06, scallop=0.04, eye=0.13, eye_at=0.68, eye_across=0.34,
             bars=0.5, border=0.07, band_width=0.05, band_at=0.46),
        Wing(6, 0.73, -62, 0.72, 0.16, scallop=0.05, eye=0.13, eye_at=0.62,
             eye_across=0.48, border=0.07, suffusion=0.6),
        Palette((0.02, 0.75, 0.66), (0.05, 0.70, 0.72), (0.12, 0.50, 0.92), (0.05, 0.45, 0.14), (0.60, 0.60, 0.85)),
    ),
    # Swallowtails: pale yellow and black, tailed, blue and red at the tornus.
    Species(
        Wing(40, 1.05, -10, 0.66, -0.02, bars=0.9, veins=0.9, border=0.14, border_dots=0.8, patch=0.2, suffusion=0.6),
        Wing(6, 0.68, -68, 0.76, 0.14, scallop=0.05, tail=0.24, veins=0.7, border=0.18, border_dots=0.7,
             lunules=0.9, eye=0.06, eye_at=0.82, eye_across=0.86),
        Palette((0.135, 0.55, 0.95), (0.13, 0.62, 0.94), (0.12, 0.7, 0.9), (0.65, 0.25, 0.12), (0.60, 0.65, 0.80)),
    ),
    # Morphos: shining blue, dark margins with pale dots.
    Species(
        Wing(40, 1.05, -10, 0.68, 0.02, sheen=0.9, border=0.14, border_dots=0.55, patch=0.2,
             row_size=0.018, row_at=0.80, band_width=0.07, band_at=0.62),
        Wing(4, 0.75, -66, 0.78, 0.22, scallop=0.03, sheen=0.9, border=0.13, border_dots=0.55, veins=0.3),
        Palette((0.58, 0.85, 0.80), (0.62, 0.88, 0.72), (0.53, 0.50, 0.95), (0.65, 0.5, 0.12), (0.52, 0.45, 0.98)),
    ),
    # Whites and orange tips: cream, dark veins, a coloured or dark apex.
    Species(
        Wing(40, 1.0, -14, 0.70, 0.06, patch=0.42, row_size=0.04, row_at=0.62, veins=0.3, border=0.02, suffusion=0.5),
        Wing(4, 0.73, -66, 0.75, 0.24, row_size=0.022, row_at=0.74, border=0.04,
             veins=0.4, suffusion=0.4, lunules=0.3),
        Palette((0.14, 0.14, 0.97), (0.13, 0.22, 0.96), (0.09, 0.75, 0.96), (0.08, 0.3, 0.18), (0.09, 0.80, 0.95)),
        body=0.065,
    ),
    # Blues: small and rounded, violet to sky, orange crescents.
    Species(
        Wing(40, 0.92, -16, 0.70, 0.10, border=0.07, sheen=0.5, fringe=0.9, row_size=0.018,
             row_at=0.72, row_eyes=0.4, lunules=0.3),
        Wing(4, 0.70, -64, 0.72, 0.24, border=0.06, border_dots=0.5, lunules=0.8, sheen=0.5,
             fringe=0.9, row_size=0.02, row_at=0.68, row_eyes=0.4),
        Palette((0.65, 0.55, 0.82), (0.68, 0.60, 0.66), (0.60, 0.35, 0.9), (0.07, 0.4, 0.18), (0.07, 0.85, 0.95)),
        body=0.085,
    ),
    # Satyrs: brown, a pale band, ringed spots along it.
    Species(
        Wing(38, 0.98, -14, 0.72, 0.08, band_width=0.10, band_at=0.74, row_size=0.045, row_at=0.74,
             row_eyes=1.0, line=0.5, fringe=0.5),
        Wing(4, 0.72, -66, 0.76, 0.24, scallop=0.04, band_width=0.09, band_at=0.72, row_size=0.042,
             row_at=0.72, row_eyes=1.0, line=0.5, fringe=0.5),
        Palette((0.06, 0.60, 0.42), (0.07, 0.55, 0.50), (0.09, 0.62, 0.84), (0.05, 0.5, 0.13), (0.10, 0.55, 0.92)),
    ),
    # Longwings: narrow and dark, bold bands and rays.
    Species(
        Wing(30, 1.12, -4, 0.54, 0.05, costa=13, band_width=0.13, band_at=0.62, band_slope=-0.15,
             rays=0.25, veins=0.2, border_dots=0.4, border=0.06),
        Wing(2, 0.68, -56, 0.60, 0.20, rays=0.8, band_width=0.06, band_at=0.45,
             border=0.10, border_dots=0.7, veins=0.2),
        Palette((0.03, 0.45, 0.17), (0.03, 0.5, 0.12), (0.01, 0.85, 0.86), (0.03, 0.4, 0.08), (0.12, 0.75, 0.95)),
        body=0.06,
    ),
)
# fmt: on
