"""Pre-train text encoders: any masked objective, one engine, a Hugging Face model out."""
