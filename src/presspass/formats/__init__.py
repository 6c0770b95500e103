"""Others' formats: hostile bytes in, frozen values out. Opens nothing, dials nothing."""
