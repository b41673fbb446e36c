"""Everything that touches DICOM data sets: reading, decoding, rendering and writing."""
