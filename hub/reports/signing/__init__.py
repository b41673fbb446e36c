"""Electronic signatures on reports: keys under a PIN, the hub's own CA, PAdES, and verification by file.

`signer` is the interface that every source of signatures fits: the hub's own CA (`ca`), an imported PKCS#12
(`pkcs12`), and, outside this package, a licensed CA's token or cloud. `pades` signs, `verify` judges.
"""
