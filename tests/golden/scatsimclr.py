"""Names of ScatSimCLR's reference values, in terms of the library."""

import numpy as np

from contrastive_jax.models import scattering


def scattering_2d(inputs, args):
    s = scattering.scattering_2d(
        inputs["images"],
        scales=args["J"],
        angles=args["L"],
        max_order=args["max_order"],
    )
    return {"coefficients": s}


def morlet_filter_bank(inputs, args):
    shape = tuple(map(int, np.asarray(inputs["size"])))
    bank = scattering.morlet_filter_bank(shape, args["J"], args["L"])
    found = {f"phi_res{r}": phi for r, phi in enumerate(bank.phi)}
    for j, resolutions in enumerate(bank.psi):
        for r, filters in enumerate(resolutions):
            for a, psi in enumerate(filters):
                found[f"psi_j{j}_theta{a}_res{r}"] = psi
    return found

ADAPTERS = {"scattering_2d": scattering_2d, "morlet_filter_bank": morlet_filter_bank}
