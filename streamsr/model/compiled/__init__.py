"""The network compiled ahead of time: built in a process of its own, kept on disk, switched in when ready."""
