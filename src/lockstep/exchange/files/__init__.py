"""A run as files of a framework's own: weights beside the text of a module, or a whole model; no pickle in any."""
