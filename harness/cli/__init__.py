"""The words that can be typed; every command is a few lines, and its logic lives in the rows below."""
