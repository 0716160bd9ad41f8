"""Mathematics that knows no network: intervals, operations that bounds pass, programs of them."""
