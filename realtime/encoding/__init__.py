"""Pure: bytes, packets and values, each way. The strict door is here."""
