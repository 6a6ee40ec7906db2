"""Runs on Kubernetes: the command `launch/k8s/submit` and its template."""
