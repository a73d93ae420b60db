"""The Celery side: app, pool, tasks, stages, reconcile. The only importer of celery."""
