"""The paper's claims, each as something to run: what it says, how it is judged, what came out."""
