"""Schedule templates: from a task and a target to a scheduled kernel."""
