"""What readers draw and measure on the images of an exam, kept beside its draft."""
