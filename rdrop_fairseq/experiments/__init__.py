"""Does R-Drop help on small real data? Three experiments of the same form (scripts/experiment_tasks.sh)."""
