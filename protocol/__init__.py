"""What both ends of a connection share: names, messages, codec, lanes, stubs, errors."""
