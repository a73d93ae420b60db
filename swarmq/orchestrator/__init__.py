"""From a task to a plan, and from results to a report. No Celery."""
