"""`python -m bloomery`: the same as the script `bloomery`, where it is not on the path."""

from bloomery.cli.main import run

if __name__ == "__main__":
    run()
