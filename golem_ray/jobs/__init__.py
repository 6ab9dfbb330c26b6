"""The jobs: orchestration. They know no Ray, and import no PyTorch themselves."""
