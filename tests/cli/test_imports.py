import subprocess
import sys


def test_a_command_and_a_task_of_airflow_load_no_pandas() -> None:
    """Pandas takes longer to import than all else that they need."""
    program = "import almanac.cli, almanac.airflow.openlineage, almanac.airflow.tasks, sys; print('pandas' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"
