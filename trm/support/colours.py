"""Okabe and Ito's palette, told apart by people who see colours differently."""

BLUE, VERMILION, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#999999"
PALETTE = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY, BLACK, GREY)
