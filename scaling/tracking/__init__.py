"""The view of a study in MLflow: nothing here is the record."""
