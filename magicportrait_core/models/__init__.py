"""The networks of the diffusion model, on diffusers; importing this package imports none of them."""
