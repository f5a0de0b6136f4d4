"""Ways to quantise one model, side by side: what each loses, how small it is, how fast it writes."""
