"""The paper's findings as commands: what each claims, how it is measured, and how it is judged."""
