#!/usr/bin/env bash
# xarray 2026.9.0 with pandas 3.1.1: a coordinate of float32 values is selected by the Python float that made it
# (.sel rounds to the type of the index), but drop_sel and isin compare in float64 and do not find it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet 'xarray==2026.9.0' 'pandas==3.1.1'
"$folder/venv/bin/python" - <<'PY'
import numpy as np, pandas, xarray

array = xarray.DataArray(np.arange(3), coords={"rate": np.array([0.1, 0.2, 0.3], np.float32)}, dims="rate")
selected = int(array.sel(rate=0.1))
try:
    array.drop_sel(rate=[0.1])
    dropped = True
except KeyError as error:
    dropped = False
    print(error)
found = array.rate.isin([0.1]).values.any()
print(xarray.__version__, pandas.__version__, "sel:", selected, "drop_sel:", dropped, "isin:", bool(found))
assert (selected, dropped, bool(found)) == (0, False, False), "changed"
PY
