import subprocess
import sys


def test_a_command_and_a_task_of_airflow_load_neither_pandas_nor_pyiceberg() -> None:
    """Pandas takes longer to import than all else that they need; pyiceberg is an extra, which only an Iceberg table needs."""
    program = (
        "import almanac, almanac.cli, almanac.airflow.openlineage, almanac.airflow.tasks, almanac.pinning, sys; "
        "almanac.EventSource('iceberg://lake/shop.visits', event_time='at'); print({'pandas', 'pyiceberg'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "set()\n"
