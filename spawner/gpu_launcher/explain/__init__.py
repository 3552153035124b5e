"""Pure words and estimates: what people are told, and why."""
