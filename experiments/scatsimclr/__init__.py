"""ScatSimCLR: contrastive learning on wavelet scattering, with a pretext task."""
