"""The procedure's steps, pure: `plan` gives the exact commands over facts, `checks` judges facts."""
