"""Look at a rig before it is used: a picture from above, a table, and what looks wrong."""
