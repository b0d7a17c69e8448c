"""Where text comes from: one kind of file or collection a plug-in."""
